"""Device models: one small file each, wired in corral.machine."""
