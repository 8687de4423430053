"""From outcomes to what is fitted: arrays, moments, ridge probes, and how sure all of it is."""
