"""What the lab knows of the host it runs on: processes, groups, disks, kernel settings."""
