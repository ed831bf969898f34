"""What can be seen from outside: request ids, logs, metrics, traces."""
