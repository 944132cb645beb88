"""What a person asks beside a run: is the machine fit, what does a step cost, what would train, what comes next."""
