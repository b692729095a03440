"""The bundle: the only thing that passes from the workstation to the device."""
