// GLSL of the viewer. Light is linear Rec.709 throughout; it is exposed and coded for the screen at the very end.

/** Colours of false-colour stops, from 8 stops under a white pixel to 8 over it, one a stop; the last and first also
 * beyond. Middle grey (0.18, -2.5 stops) is green, what clips begins at orange. sRGB. */
export const STOP_COLORS = [
  "#1b0c33", "#2d1b69", "#2b3a9b", "#1f5fbf", "#1e86c8", "#3aa845", "#8fbf30", "#e6dc4a",
  "#f2a02d", "#ec7a25", "#e04a2a", "#c4263f", "#b0267a", "#c850b8", "#e493dc", "#ffffff",
];

export const BALL_PIXELS = 48; // The matte and the diffuse ball are shaded at this size and then enlarged.

const LAT_LONG = `
const float PI = 3.14159265358979;

vec2 lat_long(vec3 d) {
  return vec2(atan(d.x, -d.z) / (2.0 * PI) + 0.5, 0.5 - atan(d.y, length(d.xz)) / PI);
}`;

/** One triangle that covers the picture. */
export const COVER = `#version 300 es
void main() {
  gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}`;

/** The matte silver ball (left half) and the diffuse one (right), as parallel rays see them: for every point the sum over
 * all of the map's light. The same balls as in training/evaluation/spheres.py: albedo 0.8, and a rough metal (GGX,
 * Smith's height-correlated shadowing, Schlick's Fresnel) of roughness 0.3271. */
export const BALLS = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D map;
uniform int matte_level; // which of the map's mipmaps lights a ball
uniform int diffuse_level;
uniform mat3 camera; // columns: right, up, back
out vec4 color;
const float PI = 3.14159265358979;
const float REFLECTANCE = 0.8;
const float WIDTH = 0.3271 * 0.3271 * 0.3271 * 0.3271; // of the lobe, squared

float metal(vec3 normal, vec3 light, vec3 viewer) {
  vec3 middle = normalize(light + viewer);
  float to_light = max(dot(normal, light), 0.0), to_viewer = max(dot(normal, viewer), 1e-4);
  float to_middle = max(dot(normal, middle), 0.0);
  float bell = to_middle * to_middle * (WIDTH - 1.0) + 1.0;
  float lobe = WIDTH / (PI * bell * bell);
  float shadowing = 0.5 / (to_light * sqrt(to_viewer * to_viewer * (1.0 - WIDTH) + WIDTH)
    + to_viewer * sqrt(to_light * to_light * (1.0 - WIDTH) + WIDTH));
  float fresnel = REFLECTANCE + (1.0 - REFLECTANCE) * pow(1.0 - clamp(dot(middle, viewer), 0.0, 1.0), 5.0);
  return lobe * shadowing * fresnel * to_light;
}

void main() {
  float size = ${BALL_PIXELS}.0;
  bool diffuse = gl_FragCoord.x > size;
  vec2 place = (gl_FragCoord.xy - vec2(diffuse ? size : 0.0, 0.0)) / size * 2.0 - 1.0;
  place /= max(1.0, length(place)); // Round the ball its rim goes on, for what is blended with it.
  vec3 normal = camera * vec3(place, sqrt(max(0.0, 1.0 - dot(place, place))));
  int level = diffuse ? diffuse_level : matte_level;
  ivec2 pixels = textureSize(map, level);
  float across = 2.0 * PI / float(pixels.x);
  vec2 turn = vec2(cos(across), sin(across));
  vec3 sum = vec3(0.0);
  for (int row = 0; row < pixels.y; row++) {
    float top = (0.5 - float(row) / float(pixels.y)) * PI, bottom = top - PI / float(pixels.y);
    float area = (sin(top) - sin(bottom)) * across;
    float latitude = 0.5 * (top + bottom), flat_length = cos(latitude), height = sin(latitude);
    vec2 around = vec2(cos(0.5 * across - PI), sin(0.5 * across - PI));
    for (int column = 0; column < pixels.x; column++) {
      vec3 light = vec3(flat_length * around.y, height, -flat_length * around.x);
      around = vec2(around.x * turn.x - around.y * turn.y, around.x * turn.y + around.y * turn.x);
      float facing = dot(normal, light);
      if (facing <= 0.0) continue;
      float weight = diffuse ? facing * REFLECTANCE / PI : metal(normal, light, camera[2]);
      sum += texelFetch(map, ivec2(column, row), level).rgb * (weight * area);
    }
  }
  color = vec4(min(sum, 65504.0), 1.0);
}`;

/** The picture: the map as a camera sees it or flat, the balls over it. */
export const PICTURE = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D map; // a lat-long, its first row at the zenith
uniform sampler2D balls; // what BALLS drew
uniform vec2 size; // of the picture, in pixels
uniform mat3 camera; // columns: right, up, back
uniform bool flat_view;
uniform vec2 center; // of a flat view, on the map
uniform float map_height; // of a flat view, in pixels
uniform float half_tangent; // of the camera's vertical angle of view
uniform float exposure; // in stops
uniform bool false_colors;
uniform vec3 stop_colors[16];
uniform vec3 ball_places[3]; // mirror, matte, diffuse: centre (y downwards) and radius in pixels; 0 for none
out vec4 color;
${LAT_LONG}

// The map where it is seen, a pixel of the picture covering an angle.
vec3 seen(vec2 place, float angle) {
  float row = PI / float(textureSize(map, 0).y);
  return textureLod(map, place, max(0.0, log2(angle / row))).rgb;
}

vec3 coded(vec3 light) {
  if (false_colors) {
    float luminance = dot(light, vec3(0.2126, 0.7152, 0.0722));
    return stop_colors[int(clamp(floor(log2(max(luminance, 1e-30)) + exposure) + 8.0, 0.0, 15.0))];
  }
  vec3 shown = clamp(light * exp2(exposure), 0.0, 1.0);
  return mix(12.92 * shown, 1.055 * pow(shown, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, shown));
}

vec3 backdrop(vec2 pixel) {
  vec2 offset = pixel - 0.5 * size;
  if (flat_view) {
    vec2 place = center + offset / (map_height * vec2(2.0, 1.0));
    if (abs(place.x - center.x) > 0.5 || place.y < 0.0 || place.y > 1.0) return vec3(0.1);
    return coded(seen(place, PI / map_height));
  }
  float per_pixel = 2.0 * half_tangent / size.y;
  vec3 direction = camera * vec3(offset.x * per_pixel, -offset.y * per_pixel, -1.0);
  return coded(seen(lat_long(direction), per_pixel));
}

vec3 ball(int which, vec2 place, float radius) {
  if (which > 0) return coded(textureLod(balls, vec2((place.x * 0.5 + 0.5 + float(which - 1)) * 0.5,
    place.y * 0.5 + 0.5), 0.0).rgb);
  vec3 normal = vec3(place, sqrt(max(0.0, 1.0 - dot(place, place))));
  vec3 mirrored = camera * (2.0 * normal.z * normal - vec3(0.0, 0.0, 1.0));
  return coded(seen(lat_long(mirrored), 2.0 / radius));
}

void main() {
  vec2 pixel = vec2(gl_FragCoord.x, size.y - gl_FragCoord.y);
  vec3 result = backdrop(pixel);
  for (int which = 0; which < 3; which++) {
    float radius = ball_places[which].z;
    vec2 place = (pixel - ball_places[which].xy) / max(radius, 1e-3) * vec2(1.0, -1.0);
    float cover = clamp((1.0 - length(place)) * radius + 0.5, 0.0, 1.0);
    if (radius > 0.0 && cover > 0.0) result = mix(result, ball(which, place / max(1.0, length(place)), radius), cover);
  }
  color = vec4(result, 1.0);
}`;
