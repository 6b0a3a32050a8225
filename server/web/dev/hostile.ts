// What a device may say of itself to deceive or break whoever looks.

export const HOSTILE_TEXTS = [
  '<img src=x onerror="document.title=\'owned\'">',
  '<script>document.title="owned"</script>',
  '"><svg onload=alert(1)>',
  '{@html "<b>bold</b>"} ${7*7} {{7*7}}',
  'gate\u202Etxt.exe\u202C-1',
  '\u2066hidden\u2069\u200B\u200Bspaces\uFEFF',
  'line one\nline two\r\n\ttabbed\u0000\u0007\u001b[31mred\u001b[0m',
  'Z̸̢̛͎̤a̷̡̛̗l̴̨̛̖g̵̢̛̣o̶̧̤͝ ' + 'x\u0301'.repeat(30),
  'سيارة camera עברית-7',
  'javascript:alert(1)',
  "'; DROP TABLE devices; --",
  'a'.repeat(700),
  '👩‍🚀🏳️‍🌈 probe ✅',
  '\u{E0041}\u{E0042}tags\u2028next',
];

export const HOSTILE_NAME = '__proto__';
