import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { standIn } from './dev/plugin.ts';

// A real server to develop against, `http://127.0.0.1:55280`; without one a stand-in with a simulated fleet answers.
const server = process.env.HOLDFAST_SERVER;

export default defineConfig({
  plugins: [svelte(), ...(server ? [] : [standIn()])],
  build: {
    // Everything is a file of its own, which the page's security policy asks for; the polyfill for old browsers is not needed.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // What others have written and is in the bundle goes with its licence.
    license: { fileName: 'licences.txt' },
  },
  // To the server the page is its own: it looks at Host and Origin.
  server: server
    ? {
        proxy: {
          '/api': { target: server, changeOrigin: true, ws: true, headers: { origin: new URL(server).origin } },
        },
      }
    : {},
  test: { include: ['tests/**/*.test.ts'] },
});
