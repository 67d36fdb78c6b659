// A Socket.IO client and an emitter that do what they are told: a JSON line in, JSON lines out.
// In: {"id", "do": "connect" | "ask" | "emit" | "drop" | "close" | "emitter", …}. Out: {"id", "result"} or {"event", "body"}.
import { createInterface } from 'node:readline';
import { Emitter } from '@socket.io/redis-emitter';
import { Redis } from 'ioredis';
import { io } from 'socket.io-client';

let socket;
let since;
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const does = {
  connect({ url, token, transports, ...options }) {
    // As the guide tells it: each attempt says where the client is.
    socket = io(url, {
      auth: (give) => give(since === undefined ? { token } : { token, since }),
      transports,
      reconnectionDelay: 50,
      reconnectionDelayMax: 200,
      ...options,
    });
    socket.on('connect_error', (error) => say({ event: 'connect_error', body: error.data ?? { message: error.message } }));
    socket.on('disconnect', (reason) => say({ event: 'disconnect', body: { reason } }));
    socket.onAny((event, body) => {
      if (event === 'ready') since = body.seq;
      if (event === 'inbox') {
        since = body.to;
        socket.emit('ack', { seq: since });
      }
      say({ event, body });
    });
  },
  ask: ({ event, body }) => socket.timeout(5000).emitWithAck(event, body),
  emit: ({ event, body }) => void socket.emit(event, body),
  transport: () => socket.io.engine.transport.name,
  drop: () => void socket.io.engine.close(),
  close: () => void socket.disconnect(),
  async emitter({ redis, rooms, event, args }) {
    const client = new Redis(redis);
    rooms.reduce((to, room) => to.to(room), new Emitter(client)).emit(event, ...args);
    await client.quit();
  },
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, do: name, ...options } = JSON.parse(line);
  try {
    say({ id, result: (await does[name](options)) ?? null });
  } catch (error) {
    say({ id, error: String(error) });
  }
}).on('close', () => process.exit(0));
