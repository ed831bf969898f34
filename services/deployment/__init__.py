"""The deployment command: Ada in containers, through files, the docker command and HTTP.

Standard library only, because it runs before anything is installed. Behind it stand compose.yaml and, where
Docker has no NVIDIA runtime, docker/compose.cpu.yaml over it.
"""
