"""KVM's file descriptors as objects: System (/dev/kvm), Vm, Vcpu. One class each, no policy."""
