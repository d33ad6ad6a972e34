"""What layers cost on this machine: measured once for each kind of operator, cached, and added up for a plan."""
