"""What can be known of a server at work: counters, metrics, statistics, logs, traces, and a word for every request."""
