"""The deployment command: runs Ada in containers, using files, the docker command and HTTP.

Standard library only, because it runs before anything is installed. The containers are defined in
compose.yaml, extended by docker/compose.cpu.yaml where Docker has no NVIDIA runtime.
"""
