import type { Role } from '../api/types.ts';

/** What each role may do. */
export const ROLES: [Role, string][] = [
  ['viewer', 'looks at everything'],
  ['operator', 'also writes to devices, pings, opens shells, starts and stops tasks and video'],
  ['admin', 'everything: lets devices and users in, and takes their rights away'],
];
