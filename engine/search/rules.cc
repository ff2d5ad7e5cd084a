#include "engine/search/rules.h"
