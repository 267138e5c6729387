"""An evaluation day: a blinded plan, its protocol, what became of it, and the report."""
