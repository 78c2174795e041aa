"""Points of meaning in a guest's kernel: functions whose calls are told while the guest runs on."""
