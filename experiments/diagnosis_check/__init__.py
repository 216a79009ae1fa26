"""How often `gdlab.diagnose` names the fault that was planted in a run, and how often it finds none in a sound one."""
