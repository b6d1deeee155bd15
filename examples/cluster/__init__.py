"""One program for a laptop, for a machine with many devices, and for a cluster; with files for SLURM and Kubernetes."""
