"""Programs of others against corral api: clients of Firecracker, and a fuzzer of OpenAPI. `make api` installs each into
an environment of its own."""
