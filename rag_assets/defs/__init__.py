"""Dagster only: partitions, resources, assets, checks, jobs. The work itself is in the packages beside this one."""
