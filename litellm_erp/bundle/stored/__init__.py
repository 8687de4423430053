"""What bundles of a policy that is not linear predict with: a module of the policy's name, with its ``PREDICTOR``."""
