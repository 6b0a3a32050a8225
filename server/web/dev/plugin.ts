// The stand-in as a plugin of the development server and of `vite preview`, which serves the built console with the
// security policy of the real server. None of it is in the bundle.

import type { Plugin } from 'vite';
import { Api } from './api.ts';
import { World } from './world.ts';

/** What the real server says with each page. The development server can't: it puts styles into the page by script. */
export const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "media-src 'self' blob:",
  "connect-src 'self'",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

export function standIn(): Plugin {
  const begin = () => new Api(new World(Number(process.env.FLEET ?? 60)));
  return {
    name: 'stand-in',
    apply: (_config, { command, isPreview }) => command === 'serve' || isPreview === true,
    configureServer(server) {
      server.middlewares.use(begin().handle);
    },
    configurePreviewServer(server) {
      server.middlewares.use((_request, response, next) => {
        response.setHeader('content-security-policy', POLICY);
        response.setHeader('x-content-type-options', 'nosniff');
        response.setHeader('referrer-policy', 'no-referrer');
        next();
      });
      server.middlewares.use(begin().handle);
    },
  };
}
