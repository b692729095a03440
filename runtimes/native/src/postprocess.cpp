#include "edgead/edgead.h"
