{# What makes inputs of the raw values of a table; of integers in double precision, so that machines round alike. #}
{% set f = "" if integers else "f" %}
{% set real = "double" if integers else "float" %}
{% macro at(table) %}{{ "at" if table in counted else name ~ "_pre_" ~ table ~ "[at]" }}{% endmacro %}
{% if integers and ("number" in inputs_of or "power" in inputs_of) %}
/* The nearest code; 0 of NaN. */
static inline uint8_t {{ name }}_code(double value)
{
    if (!(value > 0))
        return 0;
    return value < 255 ? (uint8_t)(value + 0.5) : 255;
}

{% endif %}
{% if "power" in inputs_of %}
/* The transform of Yeo and Johnson, scaled. Of each sign: power, centre c, 1 / (1 + c), log1p(c), factor, shift. */
static inline {{ real }} {{ name }}_power(float value, const float *sign)
{
    {{ real }} size = value < 0 ? -value : value, step;

    if (value < 0)
        sign += 6;
    step = (size - sign[1]) * sign[2];
    step = fabs{{ f }}(step) < {{ "0.5" ~ f }} ? log1p{{ f }}(step) : log1p{{ f }}(size) - sign[3];
    if (sign[0] < 0 || sign[0] > 0)
        step = expm1{{ f }}(sign[0] * step);
    return step * sign[4] + sign[5];
}

{% endif %}
/* Inputs of raw values. */
static inline void {{ name }}_inputs(const float *raw, {{ unit }} *inputs)
{
    size_t at;

{% for kind, count in inputs_of.items() %}
    for (at = 0; at < {{ count }}; at++) {
        const float value = raw[{{ at(kind ~ "_columns") }}];
{% set target = "inputs[" ~ at(kind ~ "_inputs") ~ "]" %}
{% if kind == "missing" %}
        {{ target }} = value != value ? {{ one }} : 0;
{% elif kind == "category" %}
        {{ target }} = value == {{ name }}_pre_category_codes[at] ? {{ one }} : 0;
{% else %}
{% set known = "value" %}
{% if has_fill %}
        const float known = value != value ? {{ name }}_pre_{{ kind }}_fill[at] : value;
{% set known = "known" %}
{% endif %}
{% if kind == "power" %}
{% set made = name ~ "_power(" ~ known ~ ", " ~ name ~ "_pre_power_numbers + 12 * at)" %}
{% else %}
        const float *number = {{ name }}_pre_number_numbers + 3 * at;
{% set made = "((" ~ real ~ ")" ~ known ~ " - number[0]) * number[1] + number[2]" %}
{% endif %}
        {{ target }} = {{ name ~ "_code(" ~ made ~ ")" if integers else made }};
{% endif %}
    }
{% endfor %}
}
