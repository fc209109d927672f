"""What the lab's action plugins share. Runs on the controller, in Ansible's process."""
