namespace edgead::EDGEAD_LEVEL {}
