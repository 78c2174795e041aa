"""For each Python of `make sanitize`: capstone loads its library with RTLD_DEEPBIND, which the sanitizers do not allow;
where the name is missing, it does without."""

import os

if hasattr(os, "RTLD_DEEPBIND"):
    del os.RTLD_DEEPBIND
