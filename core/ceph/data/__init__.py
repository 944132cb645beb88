"""Films and their points: reading, checking, transforming, batching. Knows neither hooks nor config."""
