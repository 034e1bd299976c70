{# Loops over the maps of a group and their positions. What a map is added up in is an array of its own, so that compilers
   know that nothing else lies there. Two taps are added at once. That there are two loops over positions inside the one
   over taps keeps GCC from merging these, after which it finds no vectors. #}
{% macro take_in(input) %}
    { /* input: {{ input.units }} x {{ input.sheet.high }} x {{ input.sheet.wide }} */
        size_t at, y, x;

{% if input.is_kept %}
{{ cleared(input) }}
{% endif %}
        at = 0;
        for (row = 0; row < {{ input.units }}; row++) {
{% if input.means is not none %}
            {{ sum }} total = 0;

{% endif %}
            for (y = 0; y < {{ input.sheet.high }}; y++) {
                for (x = 0; x < {{ input.sheet.wide }}; x++, at++) {
                    const {{ unit }} value = {{ input.value }};

                    {{ kept(input) | indent(20) }}
                }
            }
{% if input.means is not none %}
            {{ averaged(input) }}
{% endif %}
        }
    }
{%- endmacro %}

{% macro convolve(group) %}
{% set maps = group.maps %}
    { /* group {{ group.number }}: {{ group.units }} x {{ maps.sheet.high }} x {{ maps.sheet.wide }} */
{% for part in group.parts %}
        const {{ part.type }} *weight{{ loop.index }} = {{ part.table }}_weights;
{% if part.coding != "full" %}
        const {{ part.count_type }} *count{{ loop.index }} = {{ part.table }}_counts;
        const {{ part.step_type }} *step{{ loop.index }} = {{ part.table }}_{{ part.coding }};
{% endif %}
{% endfor %}
        size_t at, y, x;

{% if maps.is_kept %}
{{ cleared(maps) }}
{% endif %}
        for (row = 0; row < {{ group.units }}; row++) {
            for (at = 0; at < {{ maps.sheet.run }}; at++)
                sums[at] = {{ group.table }}_biases[row];
{% for part in group.parts %}
{% set weight, step = "weight" ~ loop.index, "step" ~ loop.index %}
            {
                size_t column = {{ part.first }};
                size_t left = {{ part.span if part.coding == "full" else "*count" ~ loop.index ~ "++" }};

                for (; left > 0; left -= left > 1 ? 2 : 1) {
                    const {{ sum }} one = *{{ weight }}++;
                    const {{ unit }} *from;

                    {{ sought(part, "from", step, maps.window) | indent(20) }}
                    if (left > 1) {
                        const {{ sum }} other = *{{ weight }}++;
                        const {{ unit }} *beside;

                        {{ sought(part, "beside", step, maps.window) | indent(24) }}
                        {{ added(part, maps.sheet, "one * from[{0}] + other * beside[{0}]") | indent(24) }}
                    } else {
                        {{ added(part, maps.sheet, "one * from[{0}]") | indent(24) }}
                    }
                }
            }
{% endfor %}
            {
{% if maps.means is not none %}
                {{ sum }} total = 0;

{% endif %}
                for (y = 0; y < {{ maps.sheet.high }}; y++) {
                    for (x = 0; x < {{ maps.sheet.wide }}; x++) {
                        const {{ sum }} sum = sums[y * {{ maps.sheet.pitch }} + x];
                        const {{ unit }} value = {{ group.activated }};

                        {{ kept(maps) | indent(24) }}
                    }
                }
{% if maps.means is not none %}
                {{ averaged(maps) }}
{% endif %}
            }
        }
    }
{%- endmacro %}

{# Zeros for the borders of maps, which nothing else is written to. #}
{% macro cleared(maps) %}
        for (at = 0; at < {{ maps.cleared }}; at++)
            maps[{{ maps.start ~ " + " if maps.start }}at] = {{ maps.border }};
{%- endmacro %}

{# What becomes of the value of a position. #}
{% macro kept(maps) %}
{% if maps.is_kept %}
maps[{{ maps.start + maps.sheet.origin }} + row * {{ maps.sheet.size }} + y * {{ maps.sheet.pitch }} + x] = value;
{%- endif %}
{% if maps.means is not none %}
{{ "\n" if maps.is_kept }}total += value;
{%- endif %}
{% endmacro %}

{# What becomes of the total of a map. #}
{% macro averaged(maps) %}
hidden[{{ maps.means ~ " + " if maps.means }}row] = {{ name ~ "_relu(total, " ~ maps.mean ~ "_multipliers[row], " ~ maps.mean ~ "_shifts[row])" if integers else "total * " ~ maps.share }};
{%- endmacro %}

{# Puts a pointer to where the next tap of a row reads for the first position. Columns count the offsets of the window, map
   after map. #}
{% macro sought(part, pointer, step, window) %}
{% set place = "column * " ~ part.sheet.size %}
{% if window > 1 %}
{% set place = "column / " ~ window * window ~ " * " ~ part.sheet.size ~ " + column % " ~ window * window ~ " / " ~ window ~ " * " ~ part.sheet.pitch ~ " + column % " ~ window %}
{% endif %}
{% if part.coding == "gaps" %}
column += *{{ step }}++;
{% elif part.coding == "sources" %}
column = {{ part.first ~ " + " if part.first }}*{{ step }}++;
{% endif %}
{{ pointer }} = maps + {{ part.start ~ " + " if part.start }}{{ place }};
{%- if part.coding == "full" %}

column++;
{%- endif %}
{% endmacro %}

{# Adds a term to the sums of all positions. #}
{% macro added(part, sheet, term) %}
{% if part.is_run %}
for (at = 0; at < {{ sheet.run }}; at++)
    sums[at] += {{ term.format("at") }};
{%- else %}
for (y = 0; y < {{ sheet.high }}; y++)
    for (x = 0; x < {{ sheet.wide }}; x++)
        sums[y * {{ sheet.pitch }} + x] += {{ term.format("y * " ~ part.down ~ " + x" ~ (" * " ~ part.right if part.right > 1)) }};
{%- endif %}
{% endmacro %}
