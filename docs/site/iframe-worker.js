// Search from disk: a browser gives pages of file: no workers, so a hidden frame runs the script in a worker's place.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script>
        postMessage = (data) => parent.postMessage(data, "*");
        importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => {
          document.head.append(Object.assign(document.createElement("script"), { src: url, onload: done }));
        })), Promise.resolve());
      <\/script><script src="${new URL(url, location)}"><\/script>`;
      this.frame = new Promise((ready) => (frame.onload = () => ready(frame.contentWindow)));
      addEventListener("message", (event) => {
        if (event.source !== frame.contentWindow) return;
        const heard = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(heard);
        this.onmessage?.(heard);
      });
      document.documentElement.append(frame);
    }
    postMessage(data) {
      this.frame.then((to) => to.postMessage(data, "*"));
    }
  };
