#include "engine/search/hypotheses.h"
