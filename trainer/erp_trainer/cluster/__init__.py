"""Work on an existing Ray cluster: sampling, scoring, embedding and the sums that a fit needs (docs/design/013-ray.md).

The process that a user starts is the driver: it alone writes to the run folder, so what a run holds, how it is keyed
and how it is resumed is the same with and without a cluster.
"""
