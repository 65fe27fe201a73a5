"""The classic builder: a Dockerfile and its context become images, one for each step."""
