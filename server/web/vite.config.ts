import type { ClientRequest, IncomingMessage } from 'node:http';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { standIn } from './dev/plugin.ts';

// A real server to develop against, `http://127.0.0.1:55280`; without one a stand-in with a simulated fleet answers.
const server = process.env.HOLDFAST_SERVER;

/** To the server the console's page is its own: it looks at Host and Origin. Others' pages stay what they are. */
function asOwn(asked: ClientRequest, { headers }: IncomingMessage): void {
  if (server && headers.origin === `http://${headers.host}`) asked.setHeader('origin', new URL(server).origin);
}

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
  server: server
    ? {
        proxy: {
          '/api': {
            target: server,
            changeOrigin: true,
            ws: true,
            configure: (proxy) => void proxy.on('proxyReq', asOwn).on('proxyReqWs', asOwn),
          },
        },
      }
    : {},
  test: { include: ['tests/**/*.test.ts'] },
});
