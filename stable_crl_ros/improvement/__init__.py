"""The loop from acting to learning: collect, fine-tune, compare, adopt or not, and its history."""
