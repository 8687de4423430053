"""The outcomes table (contract 1) and the run folders that hold one."""
