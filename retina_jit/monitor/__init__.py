"""What is told of a run while it goes on: on the terminal, in files, to Prometheus, on a page.

All of it is read from the workers' words by other threads; no worker is stopped or asked.
"""
