#include "engine/search/beam.h"
