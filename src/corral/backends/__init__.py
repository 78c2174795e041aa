"""The host's side of a device: a console, a channel's streams, a disk's image, a shared folder."""
