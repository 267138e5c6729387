"""The embedded MuJoCo WidowX: world, tasks, demonstrators, environment."""
