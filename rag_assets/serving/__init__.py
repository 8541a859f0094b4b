"""What is served over HTTP on this machine: the reports."""
