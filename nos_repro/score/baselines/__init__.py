"""What candidates are compared with. Each is itself a candidate's file, and an example of one."""
