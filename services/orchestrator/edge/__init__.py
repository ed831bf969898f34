"""What every request passes, whatever it is about: who asks, how much, how errors and disclosure look."""
