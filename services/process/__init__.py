"""How a process starts, is supervised, and shares a machine: ports, locks and one-line start errors."""
