{# The loop over the units of a group. Where `paired`, entries go to two sums in turn, which need not wait for each other. #}
{% macro walk(group) %}
    { /* group {{ group.number }} */
{% for part in group.parts %}
        const {{ part.type }} *weight{{ loop.index }} = {{ part.table }}_weights;
{% if part.coding != "full" %}
        const {{ part.count_type }} *count{{ loop.index }} = {{ part.table }}_counts;
        const {{ part.step_type }} *step{{ loop.index }} = {{ part.table }}_{{ part.coding }};
{% endif %}
{% endfor %}
        for (row = 0; row < {{ group.units }}; row++) {
            {{ sum }} sum = {{ "0" if group.shift else group.table ~ "_biases[row]" }};
{% for part in group.parts %}
{% set weight, count, step = "weight" ~ loop.index, "count" ~ loop.index, "step" ~ loop.index %}
            {
                const {{ part.source_type }} *from = {{ part.source }}{{ " + " ~ part.first if part.first }};
                size_t left = {{ part.span if part.coding == "full" else "*" ~ count ~ "++" }};
{% if part.paired %}
                {{ sum }} other = 0;
                for (; left > 1; left -= 2) {
{% for into in ("sum", "other") %}
                    {{ added(part, into, weight, step) }}
{% endfor %}
                }
                sum += other;
{% endif %}
                for (; left > 0; left--) {
                    {{ added(part, "sum", weight, step) }}
                }
            }
{% if loop.first and group.shift %}
            sum = sum * {{ 2 ** group.shift }} + {{ group.table }}_biases[row];
{% endif %}
{% endfor %}
{% if group.is_output %}
{% if integers %}
            sum *= {{ group.table }}_multipliers[row];
{% endif %}
            if (logits)
                logits[row] = sum;
            if (row == 0 || sum > best) {
                best = sum;
                found = (int)row;
            }
{% else %}
            hidden[{{ group.first ~ " + " if group.first }}row] = {{ group.activated }};
{% endif %}
        }
    }
{%- endmacro %}

{% macro added(part, sum, weight, step) %}
{% if part.coding == "full" %}
{{ sum }} += *{{ weight }}++ * *from++;
{%- elif part.coding == "sources" %}
{{ sum }} += *{{ weight }}++ * from[*{{ step }}++];
{%- else %}
from += *{{ step }}++;
                    {{ sum }} += *{{ weight }}++ * *from;
{%- endif %}
{% endmacro %}
