{% from "rows.h" import walk with context %}
{% from "maps.h" import convolve, take_in with context %}
/* {{ title }}

   {{ name }}_predict(raw) is the number of the class and {{ name }}_classes[number] its name; {{ name }}_logits(raw, logits)
   fills {{ classes }} logits{{ ", of which 1 stands for " ~ upper ~ "_SCALE" if integers }}.
{% for line in notes %}
   {{ line }}
{% endfor %}

   Written by structnet. C99. No memory is allocated, and any number of threads may call it. */

#ifndef {{ upper }}_H
#define {{ upper }}_H

{% if uses_math %}
#include <math.h>
{% endif %}
#include <stddef.h>
#include <stdint.h>

#define {{ upper }}_INPUTS {{ raw_values }} /* numbers in raw */
#define {{ upper }}_CLASSES {{ classes }}
#define {{ upper }}_RAM {{ ram }} /* bytes of all arrays on the stack */
{% if integers %}
#define {{ upper }}_SCALE {{ scale }}
{% endif %}

{% for table in tables %}
{{ table }}
{% endfor %}
{% if has_activation or (integers and has_means) %}
{% include "activation.h" %}

{% endif %}
{% if makes_inputs %}
{% include "inputs.h" %}

{% endif %}
static inline int {{ name }}_run(const {{ raw }} *raw, {{ sum }} *logits)
{
{% if makes_inputs %}
    {{ unit }} inputs[{{ inputs }}]{{ " = {0}" if has_unused }};
{% endif %}
{% if hidden %}
    {{ unit }} hidden[{{ hidden }}];
{% endif %}
{% if layout and layout.maps %}
    {{ unit }} maps[{{ layout.maps }}];
{% endif %}
{% if layout and layout.sums %}
    {{ sum }} sums[{{ layout.sums }}];
{% endif %}
    {{ sum }} best = 0;
    size_t row;
    int found = 0;

{% for array in unread %}
    (void){{ array }};
{% endfor %}
{% if makes_inputs %}
    {{ name }}_inputs(raw, inputs);
{% endif %}
{% if input_maps %}
{{ take_in(input_maps) }}
{% endif %}
{% for group in groups %}
{{ convolve(group) if group.maps else walk(group) }}
{% endfor %}
    return found;
}

static inline void {{ name }}_logits(const {{ raw }} *raw, {{ sum }} *logits)
{
    (void){{ name }}_run(raw, logits);
}

static inline int {{ name }}_predict(const {{ raw }} *raw)
{
    return {{ name }}_run(raw, NULL);
}

#endif
