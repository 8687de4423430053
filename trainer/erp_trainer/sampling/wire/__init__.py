"""What goes over the wire to a remote model, and what comes back: sent parameters, and answers checked."""
