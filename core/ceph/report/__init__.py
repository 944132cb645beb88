"""What a person looks at while a run goes on and after it."""
