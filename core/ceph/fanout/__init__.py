"""Many runs, trained at once: by whom, how many at a time, and what is remembered of them."""
