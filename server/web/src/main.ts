import { mount } from 'svelte';
import './style/tokens.css';
import './style/base.css';
import './style/controls.css';
import './style/device-columns.css';
import App from './App.svelte';
import { router } from './router.svelte.ts';
import { session } from './state/session.svelte.ts';

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no element with the id app');
router.start();
void session.load();
mount(App, { target });
