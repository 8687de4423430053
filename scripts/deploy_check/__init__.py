"""Is deploy/ as it should be, as far as a machine without a container engine and without a cluster can tell?"""
