"""Plan the points of a sweep into groups, skip what is done, run the groups."""
