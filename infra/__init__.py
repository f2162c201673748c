"""The outside world, one module for each thing that we do not own."""
