/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The properties of all kinds of input. See property.h. */
#include "property/fault-map.h"
#include "property/postcopy-script.h"
#include "property/property.h"
#include "property/setup.h"

static const Property properties[] = {
    { "header", INPUT_HEADER, property_header, NULL },
    { "stream", INPUT_STREAM, property_stream, NULL },
    { "layout", INPUT_LAYOUT, property_layout, NULL },
    { "round-trip", INPUT_ROUND_TRIP, property_round_trip, NULL },
    { "fault-map", INPUT_FAULT_MAP, property_fault_map, fault_map_describe },
    { "lazy", INPUT_LAZY, property_lazy, NULL },
    { "postcopy", INPUT_POSTCOPY, property_postcopy, postcopy_script_append },
    { "setup", INPUT_SETUP, property_setup, setup_describe },
};

const Property *property_for_kind(unsigned kind)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(properties); i++) {
        if (properties[i].kind == kind) {
            return &properties[i];
        }
    }
    return NULL;
}
